// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime
import ServerFrontEnd
import ServerRoutes
import Synchronization

/// A request on its way to a process, with the reply that the front end waits for.
struct Work: Sendable {
    let request: Request
    let reply: Reply<Response>

    /// Handles the request, on the process that received it. A trap in here is that process's end, and its answer.
    func perform() async {
        do {
            reply(try await respond(to: request))
        } catch {
            reply(.thrown(error, path: request.path))
        }
    }
}

/// Hands every request to a supervised process.
final class SupervisedService: RequestService {
    private let workers: Group<Work>
    private let system: BastionSystem
    private let requests = Atomic(0)

    init(workers: Group<Work>, system: BastionSystem) {
        self.workers = workers
        self.system = system
    }

    func handle(_ request: Request, completion: @escaping @Sendable (Response) -> Void) {
        // ordering: relaxed: a statistic, publishes nothing.
        requests.wrappingAdd(1, ordering: .relaxed)
        let path = request.path
        workers.request(within: .seconds(10)) { Work(request: request, reply: $0) }.whenComplete { result in
            switch result {
            case .success(let response): completion(response)
            case .failure(let error): completion(Response(error, path: path))
            }
        }
    }

    func statistics() -> ServiceStatistics {
        ServiceStatistics(
            // ordering: relaxed: a statistic, publishes nothing.
            requests: requests.load(ordering: .relaxed),
            trapsContained: Containment.contained,
            restarts: system.restarts
        )
    }
}

extension Response {
    /// The answer to a request whose process did not answer.
    init(_ error: AskError, path: String) {
        switch (error.code, error.reason) {
        case (.processEnded, .trap(let report)?): self = .trapped(kind: report.kind.description, path: path)
        case (.processEnded, .error(let thrown)?): self = .thrown(thrown, path: path)
        case (.timeout, _): self = .timedOut(path: path)
        default: self = .unavailable(error.description, path: path)
        }
    }
}
