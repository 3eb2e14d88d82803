"""From photographs of whole fields to a count with its uncertainty; see `reading`, where the parts come together."""
