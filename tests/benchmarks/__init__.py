"""How fast is anyserial, against the bare system calls and against other libraries, measured in one run.

Everything is compared with a *floor*: the system calls written out by hand for the same event loop, without guards,
checks or checkpoints. A machine's mood cancels out of a ratio, so contestants take turns, round by round, each in a
process of its own; what they talk to is one more process, which knows nothing but `os`.
"""
