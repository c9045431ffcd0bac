"""A soak: whatever may go wrong in a run is made to go wrong, many times, at random moments.

After each time the same command is given again, and what is stored then is compared with what a run makes that nobody
disturbs: no edit may be lost or made twice, a reason must be recorded, the exit code must be the right one.

    python -m benchmarks.faults --times 200 --write docs/faults.md
"""
