"""The device farm: artifacts run on the devices they are for; the host scores what comes back."""
