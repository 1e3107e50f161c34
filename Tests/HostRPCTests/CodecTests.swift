import Connect
import ConnectServer
import Foundation
import HostAPI
import HostRPC
import Model
import NIOCore
import Protos
import SwiftProtobuf
import Testing

@Suite struct CodecTests {
  private static let moment = Date(timeIntervalSince1970: 1_700_000_000.123456)
  private static let spec = SandboxSpec(
    teamID: TeamID(), template: .base, vcpus: 3, memoryMiB: 777, diskSizeMiB: 9_999, timeoutSeconds: 61,
    metadata: ["a": "b", "": "ü\u{0}"],
    envs: ["E": "v"], network: NetworkPolicy(allowsEgress: false, allow: ["10.0.0.0/8"], deny: ["1.2.3.4"]),
    isSecured: false)
  private static let full = HostSandbox(
    id: SandboxID(), status: .error, vcpus: 2, memoryMiB: 256, diskSizeMiB: 1_024, guestIP: "169.254.0.21",
    hostIP: "10.200.0.2",
    isolation: Isolation(vmm: "qemu", accelerator: "tcg"), startedAt: moment,
    lastActiveAt: moment.addingTimeInterval(1), reason: "it died",
    isAutoPaused: true, timings: [PhaseTiming(phase: "freeze", milliseconds: 1.25)])

  /// Encodes and decodes a message.
  private func encodedAndDecoded<M: Message>(_ message: M) throws -> M {
    try M(serializedBytes: message.serializedBytes() as [UInt8])
  }

  @Test("specifications survive encoding", arguments: [spec, SandboxSpec(teamID: TeamID())])
  func specs(spec: SandboxSpec) throws {
    #expect(try SandboxSpec(encodedAndDecoded(Host_SandboxSpec(spec))) == spec)
  }

  @Test(
    "sandboxes in every state survive encoding, with and without optional fields",
    arguments: SandboxStatus.allCases.map {
      HostSandbox(id: SandboxID(), status: $0, vcpus: 1, memoryMiB: 1, diskSizeMiB: 1)
    } + [full])
  func sandboxes(sandbox: HostSandbox) throws {
    #expect(try HostSandbox(encodedAndDecoded(Host_Sandbox(sandbox))) == sandbox)
  }

  @Test(
    "templates and snapshot requests survive encoding",
    arguments: [nil, SandboxShape(vcpus: 1, memoryMiB: 2, diskSizeMiB: 3)], [HostTemplate.Kind.base, .snapshot])
  func templates(shape: SandboxShape?, kind: HostTemplate.Kind) throws {
    let template = HostTemplate(
      name: .minimal, teamID: .platform, kind: kind, shape: shape, sizeBytes: .max, createdAt: Self.moment)
    #expect(try HostTemplate(encodedAndDecoded(Host_Template(template))) == template)
    let request = SnapshotRequest(sandboxID: SandboxID(), name: .base, teamID: TeamID(), overwrites: kind == .base)
    #expect(try SnapshotRequest(encodedAndDecoded(Host_CreateSnapshotRequest(request))) == request)
  }

  @Test("the copies of a fork are encoded without repetition, and decoded completely")
  func forks() throws {
    let id = SandboxID()
    var specs = (0..<3).map { _ in Self.spec }
    for index in specs.indices { specs[index].id = SandboxID() }
    var other = Self.spec
    other.id = SandboxID()
    other.vcpus = 1
    let request = try encodedAndDecoded(Host_ForkSandboxRequest(id, into: specs + [other]))
    #expect(request.copies.map(\.hasSpec) == [true, false, false, true])
    #expect(try request.specs() == specs + [other])
    #expect(request.sandboxID == id.wire)
    let results: [Result<HostSandbox, MartletError>] = [
      .success(Self.full),
      .failure(MartletError(.insufficientStorage, "full", retryAfterSeconds: 7, cause: CancellationError())),
    ]
    let back = try encodedAndDecoded(Host_ForkResults(results)).results()
    #expect(try back[0].get() == Self.full)
    guard case .failure(let error) = back[1] else { throw Missing() }
    #expect(
      error.code == .insufficientStorage && error.message == "full" && error.retryAfterSeconds == 7
        && error.cause == nil)
  }

  @Test(
    "process requests survive encoding",
    arguments: [
      ProcessRequest(command: "x"),
      ProcessRequest(
        command: "sh", arguments: ["-c", "", "ü"], environment: ["A": "b=c"], workingDirectory: "/", user: "root",
        hasStandardInput: true,
        terminal: TerminalSize(columns: 80, rows: 24), tag: "t", timeout: .milliseconds(1_500)),
      ProcessRequest(command: "x", timeout: .zero),
    ])
  func processes(request: ProcessRequest) throws {
    #expect(try ProcessRequest(encodedAndDecoded(Host_StartProcessRequest(request, in: SandboxID()))) == request)
    let process = GuestProcess(
      pid: .max, tag: request.tag, command: request.command, arguments: request.arguments,
      workingDirectory: request.workingDirectory,
      environment: request.environment)
    #expect(try GuestProcess(encodedAndDecoded(Host_GuestProcess(process))) == process)
  }

  @Test("encoding never shortens a time-out", arguments: [Int64(1), 1_000_000, 1_000_001])
  func timeouts(nanoseconds: Int64) {
    let timeout = Duration.nanoseconds(nanoseconds)
    let milliseconds = (nanoseconds + 999_999) / 1_000_000
    let request = Host_StartProcessRequest(ProcessRequest(command: "x", timeout: timeout), in: SandboxID())
    #expect(request.timeoutMilliseconds == milliseconds)
  }

  @Test("selectors and events survive encoding")
  func events() throws {
    for selector in [HostAPI.ProcessSelector.pid(7), .tag("t"), .pid(0), .tag("")] {
      #expect(try HostAPI.ProcessSelector(encodedAndDecoded(Host_ProcessSelector(selector))) == selector)
    }
    let bytes = ByteBuffer(bytes: Array(UInt8.min...UInt8.max))
    for stream in [ProcessEvent.OutputStream.standardOutput, .standardError, .terminal] {
      #expect(try ProcessEvent(encodedAndDecoded(Host_ProcessEvent(stream, bytes))) == .output(stream, bytes))
    }
    for exit in [ProcessExit(exitCode: -1), ProcessExit(exitCode: 137, signal: 9, isTimeout: true)] {
      #expect(try ProcessEvent(encodedAndDecoded(Host_ProcessEvent(exit))) == .exited(exit))
    }
    #expect(try ProcessEvent(encodedAndDecoded(Host_ProcessEvent(startedWith: 5, session: "s"))) == .started(pid: 5))
    #expect(ProcessEvent(.keepAlive) == nil && ProcessEvent(Host_ProcessEvent()) == nil)
  }

  @Test(
    "files and metrics survive encoding", arguments: [nil, "target"],
    [FileEntry.Kind.file, .directory, .symlink, .other])
  func files(target: String?, kind: FileEntry.Kind) throws {
    let entry = FileEntry(
      name: "n", path: "/n", kind: kind, sizeBytes: .max, mode: 0o7777, permissions: "-rw-r--r--", owner: "o",
      group: "g",
      modifiedAt: Self.moment, symlinkTarget: target)
    #expect(try FileEntry(encodedAndDecoded(Host_FileEntry(entry))) == entry)
    let metrics = GuestMetrics(
      timestamp: Self.moment, cpuPercent: 12.5, memoryBytes: 1, memoryTotalBytes: 2, diskBytes: 3, diskTotalBytes: .max)
    #expect(try GuestMetrics(encodedAndDecoded(Host_Metrics(metrics))) == metrics)
    let file = Host_FileRequest("/ü?&=+%\u{1}", user: target, in: SandboxID())
    let text = try file.queryValue()
    #expect(text.utf8.allSatisfy { $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "=") })
    #expect(try Host_FileRequest(queryValue: text) == file)
  }

  @Test("errors keep code, sentence and retry time, and lose their cause", arguments: ErrorCode.allCases)
  func errors(code: ErrorCode) {
    let error = MartletError(code, "do this", retryAfterSeconds: 3, cause: CancellationError())
    let wire = HostErrors.connectError(error)
    let back = HostErrors.martletError(ConnectError(body: wire.encoded(), httpStatus: 500))
    #expect(back.code == code && back.message == "do this" && back.retryAfterSeconds == 3 && back.cause == nil)
  }

  @Test("an error without an error of the host means that the host is unavailable")
  func transportErrors() {
    for code in ConnectCode.allCases {
      #expect(HostErrors.martletError(ConnectError(code, "inner text")).code == .hostUnavailable)
      #expect(!HostErrors.martletError(ConnectError(code, "inner text")).message.contains("inner"))
    }
    #expect(HostErrors.martletError(CancellationError()).code == .canceled)
  }

  @Test("hostile messages throw")
  func hostile() throws {
    var sandbox = Host_Sandbox(Self.full)
    sandbox.status = "flying"
    #expect(throws: MalformedHostMessage.self) { try HostSandbox(sandbox) }
    sandbox.status = "running"
    for id in [
      "", "sb-", "team-\(UUID().uuidString.lowercased())", "sb-../../etc",
      "sb-" + String(repeating: "f", count: 1 << 20),
    ] {
      sandbox.id = id
      #expect(throws: MalformedHostMessage.self) { try HostSandbox(sandbox) }
    }
    var spec = Host_SandboxSpec(Self.spec)
    spec.template = "../x"
    #expect(throws: MalformedHostMessage.self) { try SandboxSpec(spec) }
    var fork = Host_ForkSandboxRequest()
    fork.copies = [.with { $0.id = SandboxID().wire }]
    #expect(throws: MalformedHostMessage.self) { try fork.specs() }
    fork.copies = Array(repeating: .with { $0.spec = Host_SandboxSpec(Self.spec) }, count: 101)
    #expect(throws: MalformedHostMessage.self) { try fork.specs() }
    #expect(throws: MalformedHostMessage.self) { try HostAPI.ProcessSelector(Host_ProcessSelector()) }
    for text in ["%", "ü", "AAA=A", "____"] {
      #expect(throws: MalformedHostMessage.self) { try Host_FileRequest(queryValue: text) }
    }
  }

  @Test("no timestamp causes a trap", arguments: [Int64.min, .max, 0, -62_135_596_801, 253_402_300_800])
  func times(seconds: Int64) {
    for nanos in [Int32.min, 0, .max] {
      let stamp = Google_Protobuf_Timestamp.with {
        $0.seconds = seconds
        $0.nanos = nanos
      }
      let date = stamp.clampedDate
      #expect((-62_135_596_800...253_402_300_800).contains(date.timeIntervalSince1970))
      #expect(Google_Protobuf_Timestamp(clamping: date).nanos >= 0)
    }
    for date in [
      Date.distantPast, .distantFuture, Date(timeIntervalSince1970: .infinity), Date(timeIntervalSince1970: .nan),
    ] {
      #expect(Google_Protobuf_Timestamp(clamping: date).nanos >= 0)
    }
  }

  private struct Missing: Error {}
}
