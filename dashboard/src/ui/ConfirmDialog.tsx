import { Button, Group, Modal, Stack, Text, TextInput } from '@mantine/core'
import { useMutation } from '@tanstack/react-query'
import { type ReactNode, useState } from 'react'
import { Problem } from './ErrorAlert'

interface ConfirmProps {
  opened: boolean
  close: () => void
  title: string
  /** What will happen. */
  children: ReactNode
  action: string
  danger?: boolean
  /** To be typed in, where nothing brings it back. */
  typed?: string
  run: () => Promise<unknown>
}

/** Asks before something that cannot be undone with one click; stays until the server has answered. */
export function Confirm({ opened, close, title, children, action, danger, typed, run }: ConfirmProps): ReactNode {
  const [text, setText] = useState('')
  const work = useMutation({ mutationFn: run, onSuccess: () => leave() })
  const leave = () => {
    setText('')
    work.reset()
    close()
  }
  // What is under way ends here, however it ends.
  const aside = () => {
    if (!work.isPending) leave()
  }
  return (
    <Modal opened={opened} onClose={aside} title={title} closeButtonProps={{ 'aria-label': 'Close' }}>
      <Stack>
        <Text size="sm" component="div">
          {children}
        </Text>
        {typed !== undefined && (
          <TextInput label={`Type ${typed} to confirm`} value={text} onChange={(e) => setText(e.currentTarget.value)} autoComplete="off" />
        )}
        {work.isError && <Problem thrown={work.error} />}
        <Group justify="flex-end">
          <Button variant="default" onClick={aside} disabled={work.isPending}>
            Cancel
          </Button>
          <Button {...(danger === true ? { color: 'red' } : {})} loading={work.isPending} disabled={typed !== undefined && text !== typed} onClick={() => work.mutate()}>
            {action}
          </Button>
        </Group>
      </Stack>
    </Modal>
  )
}
