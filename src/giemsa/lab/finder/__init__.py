"""Training of the finder of cells: fields and cutouts, drawn scenes, the network, the loop."""
