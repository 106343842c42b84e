"""What turns a compiled artifact into a folder that an app team can ship."""
