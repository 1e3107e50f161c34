import LinuxSystem

extension SandboxNetworks {
  /// Removes a slot's network with one process: succeeds in the common case, in which link and namespace exist.
  ///
  /// The link is removed first and by name: deleting a namespace only detaches it, and a socket left inside would keep
  /// the veth pair alive.
  /// - Returns: false when a command failed; the state of the slot is then unknown.
  func removeAtOnce(_ address: SlotAddress) async -> Bool {
    await shielded {
      let batch = "link del \(address.hostLinkName)\nnetns del \(address.namespaceName)\n"
      let output = try? await self.runner.run(self.command(.removeLink, "ip", ["-force", "-batch", "-"], input: batch))
      return output?.isSuccess ?? false
    }
  }

  /// Runs the undo steps, newest first, to the end.
  /// - Returns: the failures.
  func rollBack(_ address: SlotAddress, _ steps: [NetworkStep]) async -> [NetworkError] {
    await shielded {
      var failures: [NetworkError] = []
      for step in steps.reversed() {
        do throws(NetworkError) {
          try await self.undo(step, address)
        } catch {
          failures.append(error)
        }
      }
      return failures
    }
  }

  private func undo(_ step: NetworkStep, _ address: SlotAddress) async throws(NetworkError) {
    switch step {
    case .removeLink: try await removeLink(address)
    case .removeNamespace: try await removeNamespace(address)
    default: preconditionFailure("\(step) has nothing to undo")
    }
  }

  /// Succeeds if the link does not exist afterwards, even if `ip` reported an error.
  private func removeLink(_ address: SlotAddress) async throws(NetworkError) {
    do throws(NetworkError) {
      try await perform(command(.removeLink, "ip", ["link", "del", address.hostLinkName]), slot: address.slot)
    } catch {
      guard try await linkNames().contains(address.hostLinkName) else { return }
      throw error
    }
  }

  private func removeNamespace(_ address: SlotAddress) async throws(NetworkError) {
    guard try namespaceExists(address) else { return }
    do throws(NetworkError) {
      try await perform(command(.removeNamespace, "ip", ["netns", "del", address.namespaceName]), slot: address.slot)
    } catch {
      guard try namespaceExists(address) else { return }
      throw error
    }
  }

  /// Slots that have a namespace or a link, complete or not: leftovers of a dead host agent, and slots in use.
  ///
  /// Only names that this configuration generates are considered.
  package func existingSlots() async throws(NetworkError) -> [Int] {
    let addressing = configuration.addressing
    let namespaces: [String]
    do {
      namespaces = try runner.namespaceNames()
    } catch {
      throw NetworkError(.failed(.listNamespaces, error))
    }
    let links = try await linkNames()
    let slots = namespaces.compactMap(addressing.slot(ofNamespace:)) + links.compactMap(addressing.slot(ofLink:))
    return Set(slots).sorted()
  }

  /// Names of the links of our group in the host's namespace. Source: ip-link(8), `-brief`: `NAME[@PEER] STATE …`.
  private func linkNames() async throws(NetworkError) -> [String] {
    let listing = try await perform(
      command(.listLinks, "ip", ["-brief", "link", "show", "group", String(configuration.linkGroup)]))
    return listing.outputText.split(separator: "\n").compactMap { line in
      line.split(whereSeparator: { $0 == " " || $0 == "@" }).first.map(String.init)
    }
  }

  /// Runs clean-up to its end even if the caller's task is cancelled.
  private func shielded<Result: Sendable>(_ body: @escaping @Sendable () async -> Result) async -> Result {
    // An unstructured task does not inherit the cancellation; each command inside has a deadline.
    await Task { await body() }.value
  }
}
