"""Write the digests of the models that are shipped, after one of them was replaced: `embedded/digests.json`.

python benchmarks/digests.py
"""

from giemsa.model.shipped import write_digests

if __name__ == "__main__":
    print(write_digests())
