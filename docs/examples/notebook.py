"""The page "For Python" as a script."""

import sys

picture, folder = sys.argv[1:]

# --8<-- [start:edit]
import piva_bench

edited = piva_bench.edit(
    picture, "a photo of a white cup on a wooden floor", "a photo of a red cup on a wooden floor",
    method="dds", steps=10,
)  # fmt: skip
edited.image.save("red.png")
print(f"{edited.seconds:.1f} s, {edited.unet_evaluations} rows of the network")
# --8<-- [end:edit]

# --8<-- [start:results]
results = piva_bench.load_results(folder)
print(results.groupby("method")[["seconds", "unet_evaluations"]].mean())
# --8<-- [end:results]
