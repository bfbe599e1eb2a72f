import { Button, Group, PasswordInput, Stack } from '@mantine/core'
import { useForm } from '@mantine/form'
import { useMutation, useQueryClient } from '@tanstack/react-query'
import type { ReactNode } from 'react'
import { changePassword } from '../../../api/session'
import { ErrorAlert, notifySuccess } from '../../../ui/ErrorAlert'

const EMPTY = { current: '', next: '' }

/** The form that changes the caller's password. */
export function PasswordForm(): ReactNode {
  const form = useForm({ initialValues: EMPTY })
  const client = useQueryClient()
  const save = useMutation({
    mutationFn: ({ current, next }: typeof EMPTY) => changePassword(current, next),
    onSuccess: () => {
      form.reset()
      notifySuccess('Password changed; all other sessions have ended')
      void client.invalidateQueries({ queryKey: ['sessions'] })
    },
  })
  return (
    <form onSubmit={form.onSubmit((values) => save.mutate(values))}>
      <Stack gap="sm">
        <PasswordInput label="Current password" autoComplete="current-password" required visibilityToggleButtonProps={{ 'aria-label': 'Show the current password' }} {...form.getInputProps('current')} />
        <PasswordInput label="New password" description="12 to 128 characters" autoComplete="new-password" required visibilityToggleButtonProps={{ 'aria-label': 'Show the new password' }} {...form.getInputProps('next')} />
        {save.isError && <ErrorAlert thrown={save.error} title="The password was not changed" />}
        <Group>
          <Button type="submit" size="xs" loading={save.isPending}>
            Change password
          </Button>
        </Group>
      </Stack>
    </form>
  )
}
