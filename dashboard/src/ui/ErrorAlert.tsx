import { Alert, Button, Code, Group, Stack, Text } from '@mantine/core'
import { IconAlertTriangle } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import { type ApiError, asApiError } from '../api/error'
import { notify } from '../state/notifications'
import { preferences } from '../state/preferences'
import { CopyButton } from './CopyButton'

const asText = (error: ApiError) =>
  [`code: ${error.code}`, `message: ${error.message}`, error.requestId === null ? '' : `request id: ${error.requestId}`]
    .filter((line) => line !== '')
    .join('\n')

/** The message, code and request id of an error, with a button to copy them. */
export function ErrorDetails({ error }: { error: ApiError }): ReactNode {
  return (
    <Stack gap={4}>
      <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
        {error.message}
      </Text>
      <Group gap="xs">
        <Code>{error.code}</Code>
        {error.requestId !== null && <Code>{error.requestId}</Code>}
        <CopyButton text={asText(error)} size="compact-xs" variant="default" />
      </Group>
    </Stack>
  )
}

/** An error in the place of what failed to load, or of a form's answer. */
export function ErrorAlert({ thrown, retry, title }: { thrown: unknown; retry?: () => void; title?: string }): ReactNode {
  const error = asApiError(thrown)
  return (
    <Alert color="red" icon={<IconAlertTriangle aria-hidden />} title={title ?? 'Something went wrong'} role="alert">
      <ErrorDetails error={error} />
      {retry !== undefined && (
        <Button mt="sm" size="xs" variant="light" color="red" onClick={retry}>
          Try again
        </Button>
      )}
    </Alert>
  )
}

const CLOSE = { 'aria-label': 'Close notification' }

/** Notifies of the failure of an action. */
export function notifyError(title: string, thrown: unknown): void {
  if (preferences().notification_settings.toasts === 'none') return
  notify({ color: 'red', title, message: <ErrorDetails error={asApiError(thrown)} />, autoClose: 10_000, closeButtonProps: CLOSE })
}

/** Notifies of the success of an action. */
export function notifySuccess(message: string): void {
  if (preferences().notification_settings.toasts !== 'all') return
  notify({ color: 'teal', message, autoClose: 4_000, closeButtonProps: CLOSE })
}
