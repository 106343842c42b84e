"""What an app does around the engine: a camera frame resized to the engine's input, the map resized to the frame.

By OpenCV, which JetPack brings for its own Python; without it the two are not measured. Needs NumPy; Python 3.8 or
newer. Lies beside build_and_check.py, which uses it.
"""

# Runs on devices, unpackaged and with Python 3.8: checked by its own tests rather than by strict typing.
# mypy: disallow_untyped_defs=False, disallow_untyped_calls=False, check_untyped_defs=False

import numpy as np


def steps(size, frame):
    """(pre, post, in words how), each a function; (None, None, why) without OpenCV.

    size: (height, width) of the engine. frame: of the camera. pre() gives (h, w, 3) uint8 by the contract's resize,
    post(depth) the frame's map by bilinear resizing with aligned corners.
    """
    try:
        import cv2
    except (ImportError, AttributeError, RuntimeError) as error:  # one of another NumPy fails in ways of its own
        return None, None, "OpenCV is not here ({}): apt-get install python3-opencv".format(error)
    picture = np.random.default_rng(0).integers(0, 256, (*frame, 3), dtype=np.uint8)
    scale = np.array([[_step(size[1], frame[1]), 0, 0], [0, _step(size[0], frame[0]), 0]], np.float64)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def pre():
        return cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)

    def post(depth):
        small = np.ascontiguousarray(depth, dtype=np.float32)
        return cv2.warpAffine(small, scale, (frame[1], frame[0]), flags=how, borderMode=cv2.BORDER_REPLICATE)

    return pre, post, "OpenCV {}, a frame of {}x{}".format(cv2.__version__, frame[0], frame[1])


def _step(small, large):
    """Distance, in the small map, between neighbours of the large one; corners lie on corners."""
    return (small - 1) / max(1, large - 1)
