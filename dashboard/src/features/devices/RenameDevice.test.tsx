import { MantineProvider } from '@mantine/core'
import { QueryClient, QueryClientProvider } from '@tanstack/react-query'
import { render, screen } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { expect, test, vi } from 'vitest'
import type { Device } from '../../api/client'
import { RenameDevice } from './RenameDevice'

const { patch } = vi.hoisted(() => ({ patch: vi.fn(() => Promise.resolve()) }))
vi.mock('../../api/client', () => ({ api: () => ({ PATCH: patch }), unwrap: (work: Promise<unknown>) => work }))

const device = (name: string | null, relays: (string | null)[]): Device =>
  ({ uid: 'hx1', name, model: 'HX-4', relays: relays.map((relay, index) => ({ index, name: relay })) }) as unknown as Device

const client = new QueryClient()
const form = (shown: Device) => (
  <MantineProvider>
    <QueryClientProvider client={client}>
      <RenameDevice device={shown} />
    </QueryClientProvider>
  </MantineProvider>
)
const field = (label: string) => screen.getByLabelText<HTMLInputElement>(label)
const save = () => screen.getByRole<HTMLButtonElement>('button', { name: 'Save names' })

test('only changed relays are sent, and an empty name is sent to be removed', async () => {
  const user = userEvent.setup()
  render(form(device('Porch', ['Door', null])))
  expect(save().disabled).toBe(true)
  await user.clear(field('Device'))
  await user.type(field('Relay 1'), 'Path')
  await user.click(save())
  expect(patch).toHaveBeenCalledWith('/api/v1/devices/{uid}', {
    params: { path: { uid: 'hx1' } },
    body: { name: '', relays: [{ index: 1, name: 'Path' }] },
  })
})

test('names that were changed elsewhere are shown, and a device without a name suggests its model', async () => {
  const user = userEvent.setup()
  const { rerender } = render(form(device('Porch', ['Door'])))
  await user.type(field('Relay 0'), ' light')
  // The same names again, as with each answer of the server: what was typed stays.
  rerender(form(device('Porch', ['Door'])))
  expect(field('Relay 0').value).toBe('Door light')
  rerender(form(device(null, ['Gate'])))
  expect([field('Device').value, field('Device').placeholder, field('Relay 0').value]).toEqual(['', 'HX-4', 'Gate'])
  expect(save().disabled).toBe(true)
})
