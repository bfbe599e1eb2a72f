import { Alert, Button, Code, Group, Stack, Text } from '@mantine/core'
import { IconAlertTriangle } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import { type ApiError, asApiError } from '../api/error'
import { notify } from '../state/notifications'
import { preferences } from '../state/preferences'
import { Copy } from './CopyButton'

const report = (error: ApiError) =>
  [`code: ${error.code}`, `message: ${error.message}`, error.requestId === null ? '' : `request id: ${error.requestId}`]
    .filter((line) => line !== '')
    .join('\n')

/** What is said of every failure: code, message and request id, to be copied. */
export function ProblemText({ error }: { error: ApiError }): ReactNode {
  return (
    <Stack gap={4}>
      <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
        {error.message}
      </Text>
      <Group gap="xs">
        <Code>{error.code}</Code>
        {error.requestId !== null && <Code>{error.requestId}</Code>}
        <Copy text={report(error)} size="compact-xs" variant="default" />
      </Group>
    </Stack>
  )
}

/** A failure in the place of what was asked for. */
export function Problem({ thrown, retry, title }: { thrown: unknown; retry?: () => void; title?: string }): ReactNode {
  const error = asApiError(thrown)
  return (
    <Alert color="red" icon={<IconAlertTriangle aria-hidden />} title={title ?? 'This did not work'} role="alert">
      <ProblemText error={error} />
      {retry !== undefined && (
        <Button mt="sm" size="xs" variant="light" color="red" onClick={retry}>
          Try again
        </Button>
      )}
    </Alert>
  )
}

const CLOSE = { 'aria-label': 'Close the notice' }

/** A failure of something that was clicked. */
export function notifyProblem(title: string, thrown: unknown): void {
  if (preferences().notification_settings.toasts === 'none') return
  notify({ color: 'red', title, message: <ProblemText error={asApiError(thrown)} />, autoClose: 10_000, closeButtonProps: CLOSE })
}

export function notifyDone(message: string): void {
  if (preferences().notification_settings.toasts !== 'all') return
  notify({ color: 'teal', message, autoClose: 4_000, closeButtonProps: CLOSE })
}
