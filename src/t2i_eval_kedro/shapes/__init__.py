"""The embedded synthetic benchmark ``shapes``: scenes, renderer, simulated generators and raters whose truth is known.

Everything here is synthetic: no image was made by a text-to-image model and no rating was given by a person. It exists
so that every step of the project runs on any machine, against a truth that real data does not have.
"""
