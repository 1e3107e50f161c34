import Foundation
import HostAPI
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import HostAgent

@Suite("Leaving a host")
struct LeavingTests {
  @Test("a host agent without sandboxes releases the host, and a new one prepares it again")
  func nothingLeft() async throws {
    let host = try HostFixture()
    let agent = try await host.agent()
    #expect(host.now.isHostReady)
    let spec = SandboxSpec(teamID: TeamID())
    _ = try await agent.createSandbox(spec)
    try await agent.destroySandbox(spec.id)
    #expect(try await agent.releaseHost())
    #expect(!host.now.isHostReady)
    _ = try await host.agent()
    #expect(host.now.isHostReady)
  }

  @Test("a running or failed sandbox prevents releasing the host", arguments: [false, true])
  func sandboxLeft(hasFailed: Bool) async throws {
    let host = try HostFixture()
    let agent = try await host.agent()
    let spec = SandboxSpec(teamID: TeamID())
    _ = try await agent.createSandbox(spec)
    if hasFailed {
      for machine in host.allMachines { machine.end("crashed") }
      try await eventually { try await agent.sandbox(spec.id).status == .error }
    }
    #expect(try await !agent.releaseHost())
    #expect(host.now.isHostReady)
  }
}

@Suite("Instance claims")
struct InstanceClaimTests {
  private let registry: FilePath
  private let data: [FilePath]

  init() throws {
    registry = FilePath("/tmp/martlet-claims-\(UUID().uuidString)")
    data = [registry.appending("a"), registry.appending("b")]
    for directory in data { try Directories.create(directory) }
  }

  private func remove() throws {
    try Directories.removeTree(registry)
  }

  private var files: [String] {
    get throws { try Directories.names(in: registry).filter { $0 != "a" && $0 != "b" }.sorted() }
  }

  @Test("two data directories get two numbers, and one directory only one host agent")
  func apart() throws {
    defer { try? remove() }
    let first = try InstanceClaim.claim(dataDirectory: data[0], registry: registry)
    let second = try InstanceClaim.claim(dataDirectory: data[1], registry: registry)
    #expect((first.number, second.number) == (0, 1))
    #expect { try InstanceClaim.claim(dataDirectory: data[0], registry: registry) } throws: { error in
      (error as? MartletError)?.code == .hostUnavailable
    }
  }

  @Test("a number stays with its directory when the host agent ends without releasing it")
  func kept() throws {
    defer { try? remove() }
    do {
      let first = try InstanceClaim.claim(dataDirectory: data[0], registry: registry)
      #expect(first.number == 0)
    }
    let other = try InstanceClaim.claim(dataDirectory: data[1], registry: registry)
    #expect(other.number == 1)
    let again = try InstanceClaim.claim(dataDirectory: data[0], registry: registry)
    #expect(again.number == 0)
  }

  @Test("A number is not free when its data directory cannot be reached for another reason than that it is gone")
  func unreachable() throws {
    defer { try? remove() }
    do {
      let first = try InstanceClaim.claim(dataDirectory: data[0], registry: registry)
      #expect(first.number == 0)
    }
    // ELOOP stands for what a mounted file system may answer: EACCES, EIO, ESTALE.
    try Directories.removeTree(data[0])
    try #require(symlink(data[0].string, data[0].string) == 0)
    let other = try InstanceClaim.claim(dataDirectory: data[1], registry: registry)
    #expect(other.number == 1)
    try other.release()
    unlink(data[0].string)
    #expect(try InstanceClaim.claim(dataDirectory: data[1], registry: registry).number == 0)
  }

  @Test("A claim that cannot be read is an error, not a free number")
  func unreadable() throws {
    defer { try? remove() }
    try Directories.create(registry.appending("instance-0"))
    #expect(throws: SystemError.self) { try InstanceClaim.claim(dataDirectory: data[0], registry: registry) }
  }

  @Test("Two agents of a machine do not get ranges that overlap")
  func ranges() throws {
    defer { try? remove() }
    let first = try InstanceClaim.claim(dataDirectory: data[0], registry: registry)
    let second = try InstanceClaim.claim(dataDirectory: data[1], registry: registry)
    #expect(try InstanceClaim.expectedNumber(dataDirectory: data[1], registry: registry) == 1)
    #expect(try InstanceClaim.expectedNumber(dataDirectory: registry.appending("c"), registry: registry) == 2)
    // The first has noted no range: it has the standard one.
    #expect(throws: MartletError.self) { try second.reserve(SandboxNetworkRange("10.200.128.0/20")) }
    try first.reserve(SandboxNetworkRange("10.50.0.0/16"))
    let error = #expect(throws: MartletError.self) { try second.reserve(SandboxNetworkRange("10.0.0.0/9")) }
    #expect(error?.code == .hostUnavailable)
    #expect(error?.message.contains("10.50.0.0/16") == true && error?.message.contains("--network-range") == true)
    try second.reserve(SandboxNetworkRange("10.200.128.0/20"))
    // The same agent may change its own.
    try first.reserve(SandboxNetworkRange("10.50.128.0/20"))
    try first.release()
    try second.release()
    #expect(try files.isEmpty)
  }

  @Test("A number given back leaves no file and is the next one's")
  func released() throws {
    defer { try? remove() }
    let first = try InstanceClaim.claim(dataDirectory: data[0], registry: registry)
    #expect(try files == ["instance-0"])
    try first.release()
    #expect(try files.isEmpty)
    let second = try InstanceClaim.claim(dataDirectory: data[1], registry: registry)
    #expect(second.number == 0)
  }
}
