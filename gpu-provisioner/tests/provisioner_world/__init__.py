"""What tests of the gpu-provisioner stand on: builders of what it sees, and agent pools in memory."""
