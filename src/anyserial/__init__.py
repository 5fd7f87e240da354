"""Serial ports for asyncio, uvloop and trio."""
