import Foundation
import HostAPI
import HostRPC
import Model
import TestSupport
import Testing

@Suite struct InstallationTests {
  @Test("a host serves the control planes of its own installation only, and changes nothing for others")
  func gate() async throws {
    let (host, own) = (SimulatedHost(), InstallationID())
    let id = SandboxID()
    await host.set(id, status: .running)
    try await ServedHost.run(host, installation: own) { served async throws -> Void in
      func client(_ installation: InstallationID?) -> HostRPC {
        HostRPC(
          hostID: host.hostID, address: served.address, secret: served.secret, installation: installation,
          httpClient: ServedHost.httpClient)
      }
      for foreign in [InstallationID(), nil] {
        let error = await #expect(throws: MartletError.self) { try await client(foreign).destroySandbox(id) }
        #expect(error?.code == .wrongInstallation)
        let listed = await #expect(throws: MartletError.self) { try await client(foreign).listSandboxes() }
        #expect(listed?.code == .wrongInstallation)
      }
      #expect(await host.sandboxes[id] != nil)
      #expect(await host.calls[.destroy] == nil)
      try await client(own).destroySandbox(id)
      #expect(await host.sandboxes[id] == nil)
    }
  }

  @Test("the installation is part of the signature")
  func signature() {
    let secret = HostSecret.random()
    let signed = CallSignature("POST", "/x", at: Date(), installation: InstallationID(), with: secret)
    let verifier = CallVerifier(secret: secret)
    let altered = CallSignature(
      time: signed.time, nonce: signed.nonce, installation: InstallationID().wire, mac: signed.mac)
    let removed = CallSignature(time: signed.time, nonce: signed.nonce, mac: signed.mac)
    for changed in [altered, removed] {
      #expect(throws: CallVerifier.Refusal.wrongSignature) { try verifier.verify(changed, "POST", "/x") }
    }
    #expect(throws: Never.self) { try verifier.verify(signed, "POST", "/x") }
  }

  @Test("a quarantine survives the wire")
  func wire() async throws {
    let host = SimulatedHost()
    let spec = SandboxSpec(teamID: TeamID(), metadata: ["a": "b"])
    _ = try await host.createSandbox(spec)
    try await host.quarantineSandbox(spec.id)
    let (name, moment) = (try SafeName("golden"), Date(timeIntervalSince1970: 1_700_000_000.123_456))
    await host.setSnapshot(name, team: spec.teamID, files: [:], createdAt: moment)
    await host.belong(to: InstallationID())
    try await ServedHost.run(host) { served async throws -> Void in
      try await served.client.quarantineSnapshot(name, team: spec.teamID, createdAt: moment.addingTimeInterval(1))
      #expect(await host.snapshotNames == ["golden"], "another snapshot of the name stays")
      try await served.client.quarantineSnapshot(name, team: spec.teamID, createdAt: moment)
      let (far, near) = (try await served.client.quarantine(), try await host.quarantine())
      #expect(far.installation == near.installation && far.items.count == 2)
      for item in near.items {
        let other = try #require(far.items.first { $0.id == item.id })
        #expect(other.teamID == item.teamID && other.sizeBytes == item.sizeBytes)
        #expect(SnapshotMoment.isSame(other.createdAt, item.createdAt))
        if case .sandbox(let found, let state) = other.kind { #expect(found == spec && state.status == .paused) }
        guard case .snapshot(let id, let template) = other.kind else { continue }
        #expect(template.name == name)
        _ = try await served.client.releaseSnapshot(id, as: try SafeName("other"), team: spec.teamID)
      }
      #expect(await host.snapshotNames == ["other"])
      _ = try await served.client.releaseSandbox(spec.id, to: spec.teamID)
      #expect(try await served.client.quarantine().items.isEmpty)
    }
  }
}
