"""The networks of the zoo in torch; importing one of these modules needs ``pip install
'fieldtune[torch]'``.
"""
