"""What tests of the gpu-provisioner stand on: builders of what it sees, agent pools in memory, and
the real thing: the program as a process between a real API server and an emulated Azure.
"""
