import { Button, Group, Modal, Stack, Text, TextInput } from '@mantine/core'
import { useMutation, useQueryClient } from '@tanstack/react-query'
import { useNavigate } from '@tanstack/react-router'
import { type ReactNode, type SubmitEvent, useState } from 'react'
import { api, unwrap } from '../../api/client'
import { idempotencyHeader } from '../../api/idempotency'
import { withIdempotencyKey } from '../../state/idempotentRequest'
import { ErrorAlert, notifySuccess } from '../../ui/ErrorAlert'
import { uniqueDeviceName } from './deviceName'

/** A dialog that makes the caller the owner of a device, by its claim code. */
export function ClaimDevice({ opened, close }: { opened: boolean; close: () => void }): ReactNode {
  const [code, setCode] = useState('')
  const client = useQueryClient()
  const navigate = useNavigate()
  const claim = useMutation({
    mutationFn: () => {
      const body = { code: code.trim() }
      return withIdempotencyKey(['claim', body], (key) => unwrap(api().POST('/api/v1/devices/claim', { params: { header: idempotencyHeader(key) }, body })))
    },
    onSuccess: (device) => {
      void client.invalidateQueries({ queryKey: ['devices'] })
      notifySuccess(`${uniqueDeviceName(device)} is now yours`)
      setCode('')
      close()
      void navigate({ to: '/devices/$uid', params: { uid: device.uid } })
    },
  })
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    claim.mutate()
  }
  return (
    <Modal opened={opened} onClose={() => { if (!claim.isPending) { claim.reset(); close() } }} title="Claim a device" closeButtonProps={{ 'aria-label': 'Close' }}>
      <form onSubmit={submit}>
        <Stack>
          <Text size="sm">The code is on the device&apos;s label or screen, or in its log after its first start.</Text>
          <TextInput label="Claim code" placeholder="7KQ2M-X4D9P" value={code} onChange={(e) => setCode(e.currentTarget.value)} required data-autofocus autoComplete="off" spellCheck={false} />
          {claim.isError && <ErrorAlert thrown={claim.error} title="The device was not claimed" />}
          <Group justify="flex-end">
            <Button type="submit" loading={claim.isPending} disabled={code.trim() === ''}>
              Claim
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  )
}
