"""The engine on vLLM: its own server as a child process, told by flags and asked over a socket."""
