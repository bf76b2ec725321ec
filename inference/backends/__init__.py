"""Engines that run member graphs, behind one small interface."""
