import { Code, Group, Modal, Stack, Text } from '@mantine/core'
import type { ReactNode } from 'react'
import { CopyButton } from './CopyButton'

/** A dialog with a secret that the server gives only once. */
export function SecretDialog({ title, value, close, children }: { title: string; value: string | null; close: () => void; children: ReactNode }): ReactNode {
  return (
    <Modal opened={value !== null} onClose={close} title={title} closeOnClickOutside={false} closeOnEscape={false} closeButtonProps={{ 'aria-label': 'Close' }}>
      <Stack>
        <Text size="sm" component="div">
          {children}
        </Text>
        <Code block style={{ overflowWrap: 'anywhere', whiteSpace: 'pre-wrap' }} data-secret>
          {value}
        </Code>
        <Group justify="flex-end">
          <CopyButton text={value ?? ''} />
        </Group>
      </Stack>
    </Modal>
  )
}
