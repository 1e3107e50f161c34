import Envd
import Protos
import Testing

@Suite struct ProcessEnvironmentTests {
  private let user = GuestUser(
    name: "mia", uid: 1000, gid: 1000, groups: [1000, 27], home: "/home/mia", shell: "/bin/bash")

  private func build(
    agentPath: String? = "/agent/bin", guest: GuestState.Identity = .init(), request: [String: String] = [:],
    hasTerminal: Bool = false
  ) throws -> [String: String] {
    try ProcessEnvironment.build(
      agentPath: agentPath, user: user, guest: guest, request: request, hasTerminal: hasTerminal)
  }

  @Test("a process gets the user's identity and the agent's PATH")
  func identity() throws {
    let variables = try build()
    #expect(variables["PATH"] == "/agent/bin")
    #expect(variables["HOME"] == "/home/mia")
    #expect(variables["USER"] == "mia")
    #expect(variables["LOGNAME"] == "mia")
    #expect(variables["E2B_SANDBOX"] == "true")
    #expect(variables["E2B_SANDBOX_ID"] == nil)
    #expect(variables["TERM"] == nil)
  }

  @Test("without PATH of the agent, processes get the standard one", arguments: [nil, ""])
  func standardPath(agentPath: String?) throws {
    #expect(try build(agentPath: agentPath)["PATH"] == ProcessEnvironment.standardPath)
  }

  @Test("the request's variables override the sandbox's, and those override the user's identity")
  func precedence() throws {
    let guest = GuestState.Identity(
      environment: ["A": "sandbox", "B": "sandbox", "HOME": "/elsewhere"], sandboxID: "sb-1", templateID: "base")
    let variables = try build(guest: guest, request: ["A": "request"])
    #expect(variables["A"] == "request")
    #expect(variables["B"] == "sandbox")
    #expect(variables["HOME"] == "/elsewhere")
    #expect(variables["E2B_SANDBOX_ID"] == "sb-1")
    #expect(variables["E2B_TEMPLATE_ID"] == "base")
  }

  @Test("a process with a terminal gets TERM unless the request sets it")
  func terminal() throws {
    #expect(try build(hasTerminal: true)["TERM"] == "xterm-256color")
    #expect(try build(request: ["TERM": "dumb"], hasTerminal: true)["TERM"] == "dumb")
  }

  @Test(
    "names and values that the kernel does not support are refused",
    arguments: [["": "x"], ["A=B": "x"], ["A\0": "x"], ["A": "x\0y"]])
  func malformed(request: [String: String]) {
    #expect(throws: ProcessServiceError.self) { try build(request: request) }
  }

  @Test("values may contain anything else", arguments: ["", "a=b", "ü\n\t", "x y"])
  func values(value: String) throws {
    #expect(try build(request: ["V": value])["V"] == value)
  }
}

@Suite struct LaunchPlanTests {
  private let root = GuestUser(name: "root", uid: 0, gid: 0, groups: [0], home: "/", shell: "/bin/sh")

  private func plan(
    _ configure: (inout Process_StartRequest) -> Void, guest: GuestState.Identity = .init()
  ) throws -> LaunchPlan {
    var request = Process_StartRequest()
    request.process.cmd = "/bin/sh"
    configure(&request)
    return try LaunchPlan.make(request, user: root, guest: guest, agentPath: nil)
  }

  @Test("standard input is a pipe unless the request disables it")
  func standardInput() throws {
    #expect(try plan { _ in }.standardInput == .pipe)
    #expect(try plan { $0.stdin = true }.standardInput == .pipe)
    #expect(try plan { $0.stdin = false }.standardInput == .nothing)
  }

  @Test(
    "a terminal never has size 0",
    arguments: [(0, 0, 80, 24), (100, 0, 100, 24), (0, 50, 80, 50), (70_000, 1, 65_535, 1)])
  func terminalSize(columns: UInt32, rows: UInt32, expectedColumns: UInt16, expectedRows: UInt16) throws {
    let plan = try plan {
      $0.pty.size.cols = columns
      $0.pty.size.rows = rows
    }
    #expect(plan.terminal?.columns == expectedColumns)
    #expect(plan.terminal?.rows == expectedRows)
  }

  @Test("a terminal without a requested size gets 80 columns and 24 rows")
  func defaultTerminal() throws {
    #expect(try plan { $0.pty = Process_PTY() }.terminal == .standard)
    #expect(try plan { _ in }.terminal == nil)
  }

  @Test("commands are looked up in the environment's PATH")
  func lookup() throws {
    #expect(try plan { $0.process.cmd = "sh" }.executable.hasSuffix("/sh"))
    #expect(throws: ProcessServiceError.commandNotFound("sh")) {
      try plan {
        $0.process.cmd = "sh"
        $0.process.envs = ["PATH": "/nonexistent"]
      }
    }
  }

  @Test("missing, not executable and empty commands have different errors")
  func commands() {
    #expect(throws: ProcessServiceError.commandNotFound("no-such-command")) {
      try plan { $0.process.cmd = "no-such-command" }
    }
    #expect(throws: ProcessServiceError.commandNotExecutable("/etc/passwd")) {
      try plan { $0.process.cmd = "/etc/passwd" }
    }
    #expect(throws: ProcessServiceError.invalidRequest("cmd must be the name or path of a program")) {
      try plan { $0.process.cmd = "" }
    }
  }

  @Test("a requested working directory must exist and be a directory")
  func workingDirectory() throws {
    #expect(try plan { $0.process.cwd = "/tmp" }.workingDirectory == "/tmp")
    #expect(throws: ProcessServiceError.workingDirectoryMissing("/no/such")) {
      try plan { $0.process.cwd = "/no/such" }
    }
    #expect(throws: ProcessServiceError.workingDirectoryNotADirectory("/etc/passwd")) {
      try plan { $0.process.cwd = "/etc/passwd" }
    }
    #expect(try plan { $0.process.cwd = "tmp" }.workingDirectory == "/tmp", "relative to the home")
    #expect(try plan { $0.process.cwd = "~/tmp" }.workingDirectory == "/tmp")
  }

  @Test("the default working directory is the sandbox's default, then the home, then the root")
  func defaultDirectory() throws {
    #expect(try plan({ _ in }, guest: .init(defaultWorkdir: "/tmp")).workingDirectory == "/tmp")
    #expect(try plan({ _ in }, guest: .init(defaultWorkdir: "/gone")).workingDirectory == "/")
    #expect(try plan { _ in }.workingDirectory == "/")
  }

  @Test("NUL bytes and over-long tags are refused")
  func hostile() {
    #expect(throws: ProcessServiceError.self) { try plan { $0.process.args = ["a\0b"] } }
    #expect(throws: ProcessServiceError.self) { try plan { $0.process.cwd = "/tmp\0/x" } }
    #expect(throws: ProcessServiceError.self) { try plan { $0.process.cmd = "/bin/sh\0" } }
    #expect(throws: ProcessServiceError.self) { try plan { $0.tag = String(repeating: "t", count: 257) } }
  }
}
