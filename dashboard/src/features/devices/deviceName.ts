/** How devices are called in the console. A device without a name is shown by its model, and by its uid only without one. */
import type { Device } from '../../api/client'

type Named = Pick<Device, 'uid' | 'name' | 'model'>

/** Stored texts may be empty: an empty name is no name. */
const given = (text: string | null | undefined): string | null => (text == null || text.trim() === '' ? null : text)

/** Whether its owner gave it a name. */
export const isNamed = (device: Named): boolean => given(device.name) !== null

/** The name of a device; else its model, else its uid. */
export const deviceName = (device: Named): string => given(device.name) ?? given(device.model) ?? device.uid

/** The uid, where the name does not contain it already; `null` otherwise. */
export const secondaryUid = (device: Named): string | null => (deviceName(device) === device.uid ? null : device.uid)

/** A name that no other device has in the same list: a model stands for many devices, so its uid follows. */
export const uniqueDeviceName = (device: Named): string =>
  !isNamed(device) && given(device.model) !== null ? `${deviceName(device)} (${device.uid})` : deviceName(device)
