if __name__ != "unfoldc.kernels":
    raise ImportError("import this package as unfoldc.kernels; the folder is not a package of its own")
