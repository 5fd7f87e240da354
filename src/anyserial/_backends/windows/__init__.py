"""COM ports: transfers that are started and complete later."""
