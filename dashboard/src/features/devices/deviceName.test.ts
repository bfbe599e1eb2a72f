import { expect, test } from 'vitest'
import { deviceName, secondaryUid, uniqueDeviceName } from './deviceName'

const device = (name: string | null, model: string | null) => ({ uid: 'hx1', name, model })

test('a device without a name is shown by its model, and by its uid only without one', () => {
  expect(deviceName(device('Porch', 'HX-4'))).toBe('Porch')
  expect(deviceName(device(null, 'HX-4'))).toBe('HX-4')
  expect(deviceName(device(' ', 'HX-4'))).toBe('HX-4')
  expect(deviceName(device(null, null))).toBe('hx1')
})

test('the uid is the secondary text of whatever is not the uid', () => {
  expect(secondaryUid(device('Porch', 'HX-4'))).toBe('hx1')
  expect(secondaryUid(device(null, 'HX-4'))).toBe('hx1')
  expect(secondaryUid(device(null, null))).toBeNull()
})

test('where only one text fits, devices of the same model are told apart by their uids', () => {
  expect(uniqueDeviceName(device('Porch', 'HX-4'))).toBe('Porch')
  expect(uniqueDeviceName(device(null, 'HX-4'))).toBe('HX-4 (hx1)')
  expect(uniqueDeviceName(device(null, null))).toBe('hx1')
})
