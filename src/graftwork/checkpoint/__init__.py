"""Files on disk."""


def save(handle, what, folder):
    raise NotImplementedError


def load(handle, folder, name):
    raise NotImplementedError
