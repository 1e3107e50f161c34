// Interfaces that only the guest agent uses.
#pragma once
