"""Training the zoo's networks on the host: labelled frames in memory, losses, balance of tasks, the loop.

Importing these modules needs ``pip install 'fieldtune[torch]'``.
"""
