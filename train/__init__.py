"""datk.train: teacher on synthetic images, pseudo-labels on real ones, student on those alone."""

if not __name__.startswith("datk."):
    raise ImportError("import datk.train, not train: the checkout's root must not be on sys.path")
