"""AdapterHub's files both ways: folders that its library ``adapters`` (1.3.0 and older) wrote and reads."""

from graftwork.checkpoint.adapterhub.files import is_adapterhub_folder
from graftwork.checkpoint.adapterhub.reading import load_adapterhub, other_base
from graftwork.checkpoint.adapterhub.writing import save_adapterhub

__all__ = ["is_adapterhub_folder", "load_adapterhub", "other_base", "save_adapterhub"]
