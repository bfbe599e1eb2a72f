import { Button, Group, SimpleGrid, Stack, TextInput } from '@mantine/core'
import { useForm } from '@mantine/form'
import { useMutation, useQueryClient } from '@tanstack/react-query'
import { type ReactNode, useEffect } from 'react'
import { api, type Device, unwrap } from '../../api/client'
import { ErrorAlert, notifySuccess } from '../../ui/ErrorAlert'
import { deviceName } from './deviceName'

const namesOf = (device: Device) => ({ name: device.name ?? '', relays: device.relays.map(({ index, name }) => ({ index, name: name ?? '' })) })

/** The names of a device and its relays; an empty name is removed. */
export function RenameDevice({ device }: { device: Device }): ReactNode {
  const names = namesOf(device)
  const form = useForm({ initialValues: names })
  const client = useQueryClient()
  const namesKey = JSON.stringify(names)
  useEffect(() => {
    // The names were saved here, or changed elsewhere.
    form.setInitialValues(names)
    form.setValues(names)
    // eslint-disable-next-line react-hooks/exhaustive-deps -- runs when the names change, which `namesKey` stands for
  }, [namesKey])
  const rename = useMutation({
    mutationFn: ({ name, relays }: typeof names) => {
      const changed = relays.filter((relay, n) => relay.name !== names.relays[n]?.name)
      return unwrap(api().PATCH('/api/v1/devices/{uid}', { params: { path: { uid: device.uid } }, body: { name, relays: changed } }))
    },
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ['device', device.uid] })
      void client.invalidateQueries({ queryKey: ['devices'] })
      notifySuccess('Names saved')
    },
  })
  return (
    <form onSubmit={form.onSubmit((values) => rename.mutate(values))}>
      <Stack gap="sm">
        <TextInput label="Device" maxLength={64} placeholder={deviceName({ ...device, name: null })} {...form.getInputProps('name')} />
        <SimpleGrid cols={{ base: 1, xs: 2 }} spacing="sm">
          {form.values.relays.map((relay, n) => (
            <TextInput key={relay.index} label={`Relay ${relay.index}`} maxLength={64} {...form.getInputProps(`relays.${n}.name`)} />
          ))}
        </SimpleGrid>
        {rename.isError && <ErrorAlert thrown={rename.error} title="The names were not saved" />}
        <Group>
          <Button type="submit" size="xs" loading={rename.isPending} disabled={!form.isDirty()}>
            Save names
          </Button>
        </Group>
      </Stack>
    </form>
  )
}
