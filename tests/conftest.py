"""For every test: what the shell that started them leaves behind must not decide what they see."""

import signal

# A shell that starts the tests in the background makes them ignore Ctrl-C, and every process they start inherits it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
