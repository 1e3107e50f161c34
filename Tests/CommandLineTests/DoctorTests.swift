import Foundation
import Testing

@testable import CommandLine

@Suite("martlet doctor", .timeLimit(.minutes(1)))
struct DoctorTests {
  @Test("each failed outcome of the KVM probe names the fallback")
  func kvm() {
    #expect(KVMProbe.check(.runs).status == .ok)
    for outcome in [KVMProbe.Outcome.noNode, .denied, .unusable("KVM_RUN: no")] {
      let check = KVMProbe.check(outcome)
      #expect(check.status == .degraded && check.remedy != nil && check.usedInstead?.contains("TCG") == true)
    }
    #expect(KVMProbe.check(nil).status == .degraded)
  }

  @Test("a device that is not KVM is not taken for it")
  func foreignNode() {
    #expect(KVMProbe.run(node: "/dev/null") == .unusable("the device does not implement version 12 of the KVM API"))
    #expect(KVMProbe.run(node: "/does/not/exist") == .noNode)
  }

  @Test("a missing tool names its package; an optional one degrades")
  func tools() {
    let none = ToolProbes(searchPath: "/nowhere") { _ in false }
    let checks = Dictionary(uniqueKeysWithValues: ToolProbes.tools.map { ($0.check, none.check($0)) })
    #expect(checks["nft"]?.status == .missing)
    #expect(checks["nft"]?.remedy == "apt-get install nftables")
    #expect(checks["mmdebstrap"]?.status == .degraded)
    let all = ToolProbes(searchPath: "/first:/second") { $0 == "/second/ip" }
    #expect(ToolProbes.tools.first { $0.check == "ip" }.map(all.check)?.finding == "/second/ip")
  }

  @Test(
    "kernel versions are compared by number",
    arguments: [
      ("6.1.0-56-cloud", DoctorCheck.Status.ok), ("5.10.0", .ok), ("5.9.16", .degraded), ("4.19", .degraded),
      ("weird", .degraded),
    ])
  func kernels(_ release: String, _ status: DoctorCheck.Status) {
    #expect(KernelProbes.release(release).status == status)
  }

  @Test("the check of network namespaces needs the capability")
  func namespaces() {
    #expect(
      KernelProbes.networkNamespace(status: "Name:\tx\nCapEff:\t000001ffffffffff\n", hasNamespaces: true).status == .ok)
    #expect(
      KernelProbes.networkNamespace(status: "CapEff:\t0000000000000000\n", hasNamespaces: true).status == .missing)
    #expect(KernelProbes.networkNamespace(status: nil, hasNamespaces: true).status == .missing)
    #expect(
      KernelProbes.networkNamespace(status: "CapEff:\t000001ffffffffff\n", hasNamespaces: false).status == .missing)
  }

  @Test("control groups are distinguished by version and controllers")
  func controlGroups() async throws {
    try await Invocation.inDirectory { directory in
      #expect(KernelProbes.controlGroups(mount: directory).status == .degraded)
      try Data("cpuset cpu io memory pids\n".utf8).write(to: URL(filePath: "\(directory)/cgroup.controllers"))
      #expect(KernelProbes.controlGroups(mount: directory).status == .ok)
      try Data("cpu io\n".utf8).write(to: URL(filePath: "\(directory)/cgroup.controllers"))
      #expect(KernelProbes.controlGroups(mount: directory).finding == "version 2 without memory, pids")
    }
  }

  @Test("free disk space and memory determine the status")
  func resources() {
    #expect(ResourceProbes.disk("d", directory: "/d", freeBytes: 1 << 30).status == .missing)
    #expect(ResourceProbes.disk("d", directory: "/d", freeBytes: 5 << 30).status == .degraded)
    #expect(ResourceProbes.disk("d", directory: "/d", freeBytes: 50 << 30).status == .ok)
    #expect(ResourceProbes.memory("MemTotal: 9 kB\nMemAvailable:    8388608 kB\n").status == .ok)
    #expect(ResourceProbes.memory("MemAvailable:    102400 kB\n").status == .missing)
    #expect(ResourceProbes.memory("nonsense").status == .degraded)
    #expect(ResourceProbes.nearestExisting("/tmp/does/not/exist") == "/tmp")
  }

  @Test("a probe that hangs is abandoned")
  func wedged() async {
    let start = ContinuousClock.now
    let result = await ProbeThread.run(limit: .milliseconds(100)) {
      Thread.sleep(forTimeInterval: 60)
      return 1
    }
    #expect(result == nil)
    #expect(start.duration(to: .now) < .seconds(30))
  }

  @Test("the report is one JSON document with stable keys, or text with remedies")
  func report() async throws {
    let json = try await Invocation.run(["doctor", "--json"], environment: ["PATH": "/usr/bin:/bin"])
    let checks = try #require(try JSONSerialization.jsonObject(with: Data(json.output)) as? [[String: Any]])
    #expect(checks.allSatisfy { $0["name"] is String && $0["status"] is String && $0["finding"] is String })
    #expect(checks.contains { $0["name"] as? String == "images" })
    let text = DoctorCommand.text([DoctorCheck("x", .missing, "gone", remedy: "get it")], usesColor: false)
    #expect(
      text
        == "x  missing   gone\n             to do: get it\n\nSandboxes cannot run on this machine: 1 missing, 0 "
        + "degraded."
    )
    #expect(!text.contains("\u{1B}"))
  }
}
