"""The meter itself: which register means what, in which unit."""

from modbus_meter.client import ModbusClient

_VOLTAGE = 0x0000
_ENERGY = 0x0002
_BACKLIGHT = 0x0010


class Meter:
    """One energy meter, the device ``unit`` on the client's line."""

    def __init__(self, client: ModbusClient, *, unit: int = 1) -> None:
        self._client = client
        self._unit = unit

    async def voltage(self) -> float:
        """Return the line voltage in volts."""
        [decivolts] = await self._client.read_input(self._unit, _VOLTAGE)
        return decivolts / 10

    async def energy(self) -> int:
        """Return the energy counted so far in watt-hours."""
        high, low = await self._client.read_input(self._unit, _ENERGY, count=2)
        return high << 16 | low

    async def backlight(self) -> int:
        """Return for how many minutes the display stays lit after a key press."""
        [minutes] = await self._client.read_holding(self._unit, _BACKLIGHT)
        return minutes

    async def set_backlight(self, minutes: int) -> None:
        """Set for how many minutes the display stays lit after a key press."""
        await self._client.write_register(self._unit, _BACKLIGHT, minutes)
