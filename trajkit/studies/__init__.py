"""Studies: what a folder of traces shows, each with its tables, a picture and a reading in plain words."""
