import LinuxSystem
import Protos

extension Process_ProcessEvent {
  init(_ update: ProcessUpdate) {
    self.init()
    switch update {
    case .started(let pid): start.pid = pid
    case .output(.standardOutput, let bytes): data.stdout = bytes
    case .output(.standardError, let bytes): data.stderr = bytes
    case .output(.terminal, let bytes): data.pty = bytes
    case .ended(let end): self.end = EndEvent(end)
    case .keepAlive: keepalive = KeepAlive()
    }
  }
}

extension Process_ProcessEvent.EndEvent {
  /// `status` has the texts of Go's os.ProcessState, which E2B's clients show. `error` is set unless the process
  /// succeeded.
  package init(_ end: ProcessEnd) {
    self.init()
    timedOut = end.isTimeout
    switch end.status {
    case .exited(let code):
      exitCode = code
      exited = true
      status = "exit status \(code)"
      if code != 0 { error = status }
    case .signaled(let number):
      exitCode = -1
      signal = number
      status = "signal: \(SignalTable.text(number))"
      error = status
    }
  }
}

extension Process_ProcessInfo {
  init(_ process: ManagedProcess) {
    self.init()
    pid = process.pid
    config.cmd = process.description.command
    config.args = process.description.arguments
    config.envs = process.description.environment
    if let directory = process.description.workingDirectory { config.cwd = directory }
    if let name = process.description.tag { tag = name }
  }
}
