#!/bin/sh
# Make demo.png, the picture of the README, again: drawn cells (examples/draw.py) judged by the embedded model.
set -eu
picture=$(cd "$(dirname "$0")" && pwd)/demo.png
cd "$(dirname "$0")/../../examples/cells"
exec "${GIEMSA:-giemsa}" classify --sheet "$picture" --force \
    drawn_parasitized_ring_0[1-5].png drawn_parasitized_several_rings_02.png drawn_parasitized_trophozoite_0[14].png \
    drawn_uninfected_plain_0[14].png drawn_uninfected_pale_centre_0[12].png drawn_uninfected_platelet_0[12].png \
    drawn_uninfected_precipitate_02.png drawn_uninfected_torn_01.png
