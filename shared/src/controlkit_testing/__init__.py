"""What tests of a controller stand on: a fake clock and builders."""
