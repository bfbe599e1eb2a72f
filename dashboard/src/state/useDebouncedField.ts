/** A text field whose value is kept elsewhere, such as in the address, and committed after a pause in typing. */
import { useEffect, useRef, useState } from 'react'

const DEBOUNCE_MS = 300

/** The text of the field, and its setter; `commit` receives the trimmed text. */
export function useDebouncedField(value: string, commit: (next: string) => void): [string, (next: string) => void] {
  const [text, setText] = useState(value)
  const [lastValue, setLastValue] = useState(value)
  if (lastValue !== value) {
    // Changed elsewhere, by a link or a button, or committed by this field.
    setLastValue(value)
    if (text.trim() !== value) setText(value)
  }
  // The latest function, because another filter may have changed while the user was typing.
  const latest = useRef(commit)
  useEffect(() => {
    latest.current = commit
  })
  useEffect(() => {
    if (text.trim() === value) return
    const timer = setTimeout(() => latest.current(text.trim()), DEBOUNCE_MS)
    return () => clearTimeout(timer)
    // eslint-disable-next-line react-hooks/exhaustive-deps -- runs when the text changes
  }, [text])
  return [text, setText]
}
