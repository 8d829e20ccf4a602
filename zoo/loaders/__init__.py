"""One file a data set format; :func:`zoo.frames.open_frames` chooses among them."""
