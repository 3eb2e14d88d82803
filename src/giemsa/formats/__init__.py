"""Files that one part of Giemsa leaves for another: for each, reader beside writer."""
