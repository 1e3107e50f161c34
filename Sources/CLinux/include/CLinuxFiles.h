// File interfaces that Swift cannot import.
#pragma once
