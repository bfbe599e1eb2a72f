import { Button, Group, Modal, Stack, Text, TextInput } from '@mantine/core'
import { useForm } from '@mantine/form'
import { useMutation, useQueryClient } from '@tanstack/react-query'
import type { ReactNode } from 'react'
import { api, unwrap } from '../../../api/client'
import { idempotencyHeader } from '../../../api/idempotency'
import { withoutEmpty } from '../../../api/pagination'
import { withIdempotencyKey } from '../../../state/idempotentRequest'
import { ErrorAlert } from '../../../ui/ErrorAlert'

const EMPTY = { email: '', note: '' }

interface CreateInvitationProps {
  opened: boolean
  close: () => void
  onCreated: (link: string) => void
}

/** A dialog that creates an invitation. */
export function CreateInvitation({ opened, close, onCreated }: CreateInvitationProps): ReactNode {
  const form = useForm({ initialValues: EMPTY })
  const client = useQueryClient()
  const create = useMutation({
    mutationFn: ({ email, note }: typeof EMPTY) => {
      const body = withoutEmpty({ email: email.trim(), note: note.trim() })
      return withIdempotencyKey(['invite', body], (key) => unwrap(api().POST('/api/v1/admin/invitations', { params: { header: idempotencyHeader(key) }, body })))
    },
    onSuccess: (invitation) => {
      void client.invalidateQueries({ queryKey: ['invitations'] })
      form.reset()
      close()
      onCreated(invitation.link)
    },
  })
  const cancel = () => {
    if (create.isPending) return
    create.reset()
    close()
  }
  const submit = form.onSubmit((values) => {
    if (!create.isPending) create.mutate(values)
  })
  return (
    <Modal opened={opened} onClose={cancel} title="Create invitation" closeButtonProps={{ 'aria-label': 'Close' }}>
      <form onSubmit={submit}>
        <Stack>
          <Text size="sm">One person can create an account with the link, within 7 days and while you are an admin.</Text>
          <TextInput label="E-mail" type="email" description="Only this address can be registered; leave empty for any address" autoComplete="off" data-autofocus {...form.getInputProps('email')} />
          <TextInput label="Note" description="Shown in this list only" maxLength={64} autoComplete="off" {...form.getInputProps('note')} />
          {create.isError && <ErrorAlert thrown={create.error} title="The invitation was not created" />}
          <Group justify="flex-end">
            <Button type="submit" loading={create.isPending}>
              Create link
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  )
}
