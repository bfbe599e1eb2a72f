import { Button, Group, Modal, Stack, Text, TextInput } from '@mantine/core'
import { useMutation } from '@tanstack/react-query'
import { type ReactNode, useState } from 'react'
import { ErrorAlert } from './ErrorAlert'

interface ConfirmDialogProps {
  opened: boolean
  close: () => void
  title: string
  /** The consequences of the action. */
  children: ReactNode
  action: string
  danger?: boolean
  /** A text that must be typed first, for actions that lose data. */
  confirmText?: string
  run: () => Promise<unknown>
}

/** Asks for confirmation of an action; stays open until the server has answered. */
export function ConfirmDialog({ opened, close, title, children, action, danger, confirmText, run }: ConfirmDialogProps): ReactNode {
  const [text, setText] = useState('')
  const work = useMutation({ mutationFn: run, onSuccess: () => reset() })
  const reset = () => {
    setText('')
    work.reset()
    close()
  }
  // The answer of a running request is shown here.
  const cancel = () => {
    if (!work.isPending) reset()
  }
  return (
    <Modal opened={opened} onClose={cancel} title={title} closeButtonProps={{ 'aria-label': 'Close' }}>
      <Stack>
        <Text size="sm" component="div">
          {children}
        </Text>
        {confirmText !== undefined && (
          <TextInput label={`Type ${confirmText} to confirm`} value={text} onChange={(e) => setText(e.currentTarget.value)} autoComplete="off" />
        )}
        {work.isError && <ErrorAlert thrown={work.error} />}
        <Group justify="flex-end">
          <Button variant="default" onClick={cancel} disabled={work.isPending}>
            Cancel
          </Button>
          <Button {...(danger === true ? { color: 'red' } : {})} loading={work.isPending} disabled={confirmText !== undefined && text !== confirmText} onClick={() => work.mutate()}>
            {action}
          </Button>
        </Group>
      </Stack>
    </Modal>
  )
}
