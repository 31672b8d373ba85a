"""Reaches machines and starts things there; knows no py_trees and no wire protocol."""

__version__ = "0.1.0"
