import { Button, Group, Modal, Stack, Text, TextInput } from '@mantine/core'
import { useForm } from '@mantine/form'
import { useMutation, useQueryClient } from '@tanstack/react-query'
import { useNavigate } from '@tanstack/react-router'
import type { ReactNode } from 'react'
import { api, unwrap } from '../../api/client'
import { idempotencyHeader } from '../../api/idempotency'
import { withIdempotencyKey } from '../../state/idempotentRequest'
import { ErrorAlert, notifySuccess } from '../../ui/ErrorAlert'
import { uniqueDeviceName } from './deviceName'

/** A dialog that makes the caller the owner of a device, by its claim code. */
export function ClaimDevice({ opened, close }: { opened: boolean; close: () => void }): ReactNode {
  const form = useForm({ initialValues: { code: '' } })
  const client = useQueryClient()
  const navigate = useNavigate()
  const claim = useMutation({
    mutationFn: (values: typeof form.values) => {
      const body = { code: values.code.trim() }
      return withIdempotencyKey(['claim', body], (key) => unwrap(api().POST('/api/v1/devices/claim', { params: { header: idempotencyHeader(key) }, body })))
    },
    onSuccess: (device) => {
      void client.invalidateQueries({ queryKey: ['devices'] })
      notifySuccess(`${uniqueDeviceName(device)} is now yours`)
      form.reset()
      close()
      void navigate({ to: '/devices/$uid', params: { uid: device.uid } })
    },
  })
  const cancel = () => {
    if (claim.isPending) return
    claim.reset()
    close()
  }
  return (
    <Modal opened={opened} onClose={cancel} title="Claim a device" closeButtonProps={{ 'aria-label': 'Close' }}>
      <form onSubmit={form.onSubmit((values) => claim.mutate(values))}>
        <Stack>
          <Text size="sm">The code is on the device&apos;s label or screen, or in its log after its first start.</Text>
          <TextInput label="Claim code" placeholder="7KQ2M-X4D9P" required data-autofocus autoComplete="off" spellCheck={false} {...form.getInputProps('code')} />
          {claim.isError && <ErrorAlert thrown={claim.error} title="The device was not claimed" />}
          <Group justify="flex-end">
            <Button type="submit" loading={claim.isPending} disabled={form.values.code.trim() === ''}>
              Claim
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  )
}
