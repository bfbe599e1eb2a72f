import { Button, Group, SimpleGrid, Stack, TextInput } from '@mantine/core'
import { useMutation, useQueryClient } from '@tanstack/react-query'
import { type ReactNode, type SubmitEvent, useState } from 'react'
import { api, type Device, unwrap } from '../../api/client'
import { ErrorAlert, notifySuccess } from '../../ui/ErrorAlert'
import { deviceName } from './deviceName'

/** The names of a device and its relays; an empty name is removed. */
export function RenameDevice({ device }: { device: Device }): ReactNode {
  const [name, setName] = useState(device.name ?? '')
  const [relays, setRelays] = useState(() => new Map(device.relays.map((r) => [r.index, r.name ?? ''])))
  const told = JSON.stringify([device.name, device.relays.map((r) => [r.index, r.name])])
  const [seen, setSeen] = useState(told)
  if (seen !== told) {
    // Saved here, or changed elsewhere.
    setSeen(told)
    setName(device.name ?? '')
    setRelays(new Map(device.relays.map((r) => [r.index, r.name ?? ''])))
  }
  const client = useQueryClient()
  const changed = device.relays.filter((r) => (relays.get(r.index) ?? '') !== (r.name ?? ''))
  const same = changed.length === 0 && name === (device.name ?? '')
  const rename = useMutation({
    mutationFn: () =>
      unwrap(
        api().PATCH('/api/v1/devices/{uid}', {
          params: { path: { uid: device.uid } },
          body: { name, relays: changed.map((r) => ({ index: r.index, name: relays.get(r.index) ?? '' })) },
        }),
      ),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ['device', device.uid] })
      void client.invalidateQueries({ queryKey: ['devices'] })
      notifySuccess('Names saved')
    },
  })
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    rename.mutate()
  }
  return (
    <form onSubmit={submit}>
      <Stack gap="sm">
        <TextInput label="Device" maxLength={64} value={name} placeholder={deviceName({ ...device, name: null })} onChange={(e) => setName(e.currentTarget.value)} />
        <SimpleGrid cols={{ base: 1, xs: 2 }} spacing="sm">
          {device.relays.map((relay) => (
            <TextInput
              key={relay.index}
              label={`Relay ${relay.index}`}
              maxLength={64}
              value={relays.get(relay.index) ?? ''}
              onChange={(e) => setRelays(new Map(relays).set(relay.index, e.currentTarget.value))}
            />
          ))}
        </SimpleGrid>
        {rename.isError && <ErrorAlert thrown={rename.error} title="The names were not saved" />}
        <Group>
          <Button type="submit" size="xs" loading={rename.isPending} disabled={same}>
            Save names
          </Button>
        </Group>
      </Stack>
    </form>
  )
}
