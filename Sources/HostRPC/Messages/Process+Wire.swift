package import Foundation
package import HostAPI
package import Model
package import NIOCore
package import Protos
import SwiftProtobuf

extension Host_StartProcessRequest {
  package init(_ request: ProcessRequest, in id: SandboxID) {
    self.init()
    sandboxID = id.wire
    command = request.command
    arguments = request.arguments
    environment = request.environment
    if let directory = request.workingDirectory { workingDirectory = directory }
    if let user = request.user { self.user = user }
    takesInput = request.hasStandardInput
    if let size = request.terminal { terminal = Host_TerminalSize(size) }
    if let tag = request.tag { self.tag = tag }
    if let timeout = request.timeout { timeoutMilliseconds = timeout.wholeMilliseconds }
  }
}

extension ProcessRequest {
  package init(_ request: Host_StartProcessRequest) {
    self.init(
      command: request.command, arguments: request.arguments, environment: request.environment,
      workingDirectory: request.hasWorkingDirectory ? request.workingDirectory : nil,
      user: request.hasUser ? request.user : nil,
      hasStandardInput: request.takesInput, terminal: request.hasTerminal ? TerminalSize(request.terminal) : nil,
      tag: request.hasTag ? request.tag : nil,
      timeout: request.hasTimeoutMilliseconds ? .milliseconds(request.timeoutMilliseconds) : nil)
  }
}

extension Host_TerminalSize {
  package init(_ size: TerminalSize) {
    self.init()
    columns = Int64(size.columns)
    rows = Int64(size.rows)
  }
}

extension TerminalSize {
  package init(_ size: Host_TerminalSize) {
    self.init(columns: Int(size.columns), rows: Int(size.rows))
  }
}

extension Host_ProcessSelector {
  package init(_ selector: HostAPI.ProcessSelector) {
    self.init()
    switch selector {
    case .pid(let pid): self.pid = pid
    case .tag(let tag): self.tag = tag
    }
  }
}

extension HostAPI.ProcessSelector {
  package init(_ selector: Host_ProcessSelector) throws {
    switch selector.selector {
    case .pid(let pid): self = .pid(pid)
    case .tag(let tag): self = .tag(tag)
    case nil: throw MalformedHostMessage("process")
    }
  }
}

extension Host_GuestProcess {
  package init(_ process: GuestProcess) {
    self.init()
    pid = process.pid
    if let tag = process.tag { self.tag = tag }
    command = process.command
    arguments = process.arguments
    if let directory = process.workingDirectory { workingDirectory = directory }
    environment = process.environment
  }
}

extension GuestProcess {
  package init(_ process: Host_GuestProcess) {
    self.init(
      pid: process.pid, tag: process.hasTag ? process.tag : nil, command: process.command, arguments: process.arguments,
      workingDirectory: process.hasWorkingDirectory ? process.workingDirectory : nil, environment: process.environment)
  }
}

extension Host_ProcessEvent {
  package init(startedWith pid: UInt32, session: String) {
    self.init()
    started.pid = pid
    started.sessionID = session
  }

  package init(_ exit: ProcessExit) {
    self.init()
    exited.exitCode = exit.exitCode
    if let signal = exit.signal { exited.signal = signal }
    exited.isTimeout = exit.isTimeout
  }

  package init(_ stream: ProcessEvent.OutputStream, _ bytes: ByteBuffer) {
    self.init()
    let data = bytes.foundationData
    switch stream {
    case .standardOutput: standardOutput = data
    case .standardError: standardError = data
    case .terminal: terminal = data
    }
  }

  package static var keepAlive: Host_ProcessEvent { .with { $0.keepalive = Host_KeepAlive() } }
}

extension ProcessEvent {
  /// - Returns: nil for events without meaning for the caller: keep-alives, and events of later versions.
  package init?(_ event: Host_ProcessEvent) {
    switch event.event {
    case .started(let started): self = .started(pid: started.pid)
    case .standardOutput(let data): self = .output(.standardOutput, ByteBuffer(bytes: data))
    case .standardError(let data): self = .output(.standardError, ByteBuffer(bytes: data))
    case .terminal(let data): self = .output(.terminal, ByteBuffer(bytes: data))
    case .exited(let exit):
      self = .exited(
        ProcessExit(exitCode: exit.exitCode, signal: exit.hasSignal ? exit.signal : nil, isTimeout: exit.isTimeout))
    case .keepalive, nil: return nil
    }
  }
}

extension ByteBuffer {
  /// The readable bytes as the type of protobuf's `bytes` fields.
  package var foundationData: Data { withUnsafeReadableBytes { Data($0) } }

  /// The readable bytes in parts that fit into a message.
  package var pieces: [ByteBuffer] {
    var remaining = self
    var pieces: [ByteBuffer] = []
    while remaining.readableBytes > 0,
      let piece = remaining.readSlice(length: min(remaining.readableBytes, HostMessageLimits.pieceBytes))
    {
      pieces.append(piece)
    }
    return pieces
  }
}

extension Duration {
  /// Rounded up; clamped to the range of the type.
  fileprivate var wholeMilliseconds: Int64 {
    let (seconds, attoseconds) = components
    let (whole, isTooLong) = seconds.multipliedReportingOverflow(by: 1_000)
    guard !isTooLong else { return seconds > 0 ? .max : .min }
    let remaining = Int64((Double(attoseconds) / 1e15).rounded(.up))
    let (sum, overflows) = whole.addingReportingOverflow(remaining)
    return overflows ? .max : sum
  }
}
