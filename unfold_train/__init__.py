"""Unfolded solvers: declare a classical method, learn its values over K iterations, save and export it."""

if __name__ != "unfoldc.unfold_train":
    raise ImportError("import this package as unfoldc.unfold_train; the folder is not a package of its own")
